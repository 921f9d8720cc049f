# What nix/ takes from nixpkgs, and no more. `host` names paths of the store: parts of this machine that were added to it, busybox and a
{ host }:
let
  # A path that is in the store already, with the context that makes it an input.
  stored = path: builtins.appendContext path { ${path} = { path = true; }; };
  busybox = stored host.busybox;
  make =
    name: script: variables:
    derivation (
      {
        inherit name;
        system = "x86_64-linux";
        builder = "${busybox}/bin/sh";
        args = [
          "-c"
          script
        ];
        PATH = "${busybox}/bin";
      }
      // variables
    );
  fixed =
    { name, sha256, ... }:
    make name ''
      echo "error: $name is not in the Nix store, and this stand-in for nixpkgs fetches nothing" >&2
      echo "hint: cargo xtask images fetch --nix" >&2
      exit 1
    '' {
      outputHashMode = "flat";
      outputHashAlgo = "sha256";
      outputHash = sha256;
    };
  empty = name: make name ''mkdir "$out"'' { };
in
{
  pkgsStatic = { inherit busybox; };
  fetchurl = fixed;
  fetchCrate = fixed;
  requireFile = fixed;
  makeRustPlatform = _: {
    # The host's cargo has built it.
    buildRustPackage =
      { pname, ... }:
      make pname ''
        mkdir -p "$out/bin"
        cp "$xtask/bin/xtask" "$out/bin/"
      '' { xtask = stored host.xtask; };
  };
  glibc.static = empty "glibc-static";
  writeShellScriptBin =
    name: text:
    make name ''
      mkdir -p "$out/bin"
      { echo "#!${busybox}/bin/sh"; cat "$textPath"; } >"$out/bin/$name"
      chmod +x "$out/bin/$name"
    '' {
      inherit text;
      passAsFile = [ "text" ];
    };
  mkShell = _: empty "shell";
  nixfmt-tree = empty "nixfmt-tree";
}
