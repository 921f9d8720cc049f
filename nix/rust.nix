# The official Rust distribution of rust-toolchain.toml, by the hashes of its channel manifest, and the C runtime of the lock.
{
  pkgs,
  run,
  blobs,
}:
let
  pin = builtins.fromJSON (builtins.readFile ./rust.json);
  target = "x86_64-unknown-linux-gnu";
  component =
    name: sha256:
    let
      # Not the .tar.xz: busybox refuses the size of its dictionary.
      file = "${name}-${pin.version}-${target}.tar.gz";
    in
    pkgs.fetchurl {
      name = file;
      url = "${pin.base}/${file}";
      inherit sha256;
    };
in
pin
// rec {
  inherit target;

  # What rustup would unpack, without documentation.
  unpacked =
    components:
    run "rust-${pin.version}" ./sh/rust.sh {
      components = builtins.attrValues (builtins.mapAttrs component components);
    };
  distribution = unpacked pin.components;

  sysroot = securityBase: run "c-runtime" ./sh/sysroot.sh { debs = blobs.debs securityBase blobs.toolchain; };

  # `bin/cargo`, `bin/rustc`, `bin/rust-lld`: programs that want /lib64, started by the C runtime's own loader, for the sandbox has none.
  started =
    distribution: securityBase:
    run "rust-${pin.version}-tools" ./sh/tools.sh {
      inherit distribution;
      sysroot = sysroot securityBase;
    };
  tools = started distribution;
  forPeople = started (unpacked (pin.components // pin.for-people)) null;
}
