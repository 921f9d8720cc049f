# The distribution's programs want a loader in /lib64, and the sandbox has none: the C runtime's own starts them.
libraries=$sysroot/usr/lib/x86_64-linux-gnu
mkdir -p "$out/bin"
for program in "$distribution"/bin/* "$distribution"/lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld; do
    [ "$(head -c 4 "$program" | tail -c 3)" = ELF ] || continue
    tool=$out/bin/${program##*/}
    {
        echo "#!$builder"
        # cargo tells build scripts where it is; its own path would be the loader's.
        [ "${program##*/}" != cargo ] || echo "export CARGO=$tool"
        echo "exec $libraries/ld-linux-x86-64.so.2 --argv0 ${program##*/} --library-path $distribution/lib:$libraries $program \"\$@\""
    } >"$tool"
    chmod +x "$tool"
done
