# The C runtime: what the lock's toolchain packages have below /usr/lib and /usr/lib64, as images::programs::sysroot lays it down.
mkdir -p "$out/usr" unpacked
for deb in $debs; do
    dpkg-deb -x "$deb" unpacked
done
mv unpacked/usr/lib* "$out/usr/"
# libm.a is a linker script with absolute paths.
ln -s usr/lib "$out/lib"
ln -s usr/lib64 "$out/lib64"
