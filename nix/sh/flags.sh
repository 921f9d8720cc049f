# In rustc's place: `flags.sh RUSTC ARGUMENTS`. What is compiled for an image, which `--target` tells, gets exactly the flags that
# images/src/programs/wrapper.rs adds (a test there compares the two). Build scripts and procedural macros are for the sandbox, which has
# no `cc`: they are linked by the same rust-lld.
rustc=$1
shift
lib=$sysroot/usr/lib/x86_64-linux-gnu
static_pie() {
    # No word of these has a space: they are store paths.
    echo "-Clinker-flavor=ld.lld -Clinker=$linker -Ctarget-feature=+crt-static -Clink-arg=--sysroot=$sysroot" \
        "-Clink-arg=$lib/rcrt1.o -Clink-arg=$lib/crti.o -Clink-arg=$gcc/crtbeginS.o -Clink-arg=-L$lib -Clink-arg=-L$gcc" \
        "-Clink-arg=--start-group -Clink-arg=-lc -Clink-arg=-lgcc -Clink-arg=-lgcc_eh -Clink-arg=--end-group" \
        "-Clink-arg=$gcc/crtendS.o -Clink-arg=$lib/crtn.o"
}
case " $* " in
*" --target "* | *" --target="*)
    # The last match wins, so the general ones stand first.
    set -- "$@" $(static_pie) "--remap-path-prefix=$workspace=/src"
    case ${CARGO_MANIFEST_DIR-} in
    "" | "$workspace" | "$workspace"/*) ;;
    *) set -- "$@" "--remap-path-prefix=${CARGO_MANIFEST_DIR%/*}=/dep" ;;
    esac
    set -- "$@" "--remap-path-prefix=$rust_source=/rustc/$commit"
    [ -z "${OUT_DIR-}" ] || set -- "$@" "--remap-path-prefix=$OUT_DIR=/out/$CARGO_PKG_NAME"
    ;;
*" --crate-name build_script_"*) set -- "$@" $(static_pie) ;;
*" --crate-type proc-macro "*)
    set -- "$@" -Clinker-flavor=ld.lld "-Clinker=$linker" "-Clink-arg=--sysroot=$sysroot" "-Clink-arg=-L$lib" "-Clink-arg=-L$gcc"
    ;;
esac
exec "$rustc" "$@"
