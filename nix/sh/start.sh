# Every builder starts here, under busybox: `start.sh SCRIPT`.
set -eu
if [ "$NIX_BUILD_TOP" != /build ]; then
    echo "error: $name is built outside of Nix's sandbox, where files of this machine could decide bytes" >&2
    echo "hint: sandbox = true in nix.conf (Debian's says false), or --option sandbox true as somebody whom Nix trusts" >&2
    exit 1
fi
umask 022
script=$1
shift
. "$script"
