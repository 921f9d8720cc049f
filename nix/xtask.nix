# xtask, static, so that it may be carried elsewhere. It contains C and is the assembler, not content: its bytes are no image's.
{
  pkgs,
  rust,
  blobs,
}:
let
  # nixpkgs' own compiler is older than what the sources want: its builder takes the pinned distribution instead.
  toolchain = rust.tools null // {
    inherit (rust) version;
    targetPlatforms = [ "x86_64-linux" ];
    badTargetPlatforms = [ ];
    meta = { };
  };
  platform = pkgs.makeRustPlatform {
    cargo = toolchain;
    rustc = toolchain;
  };
  top = toString ../. + "/";
in
platform.buildRustPackage {
  pname = "xtask";
  version = (builtins.fromTOML (builtins.readFile ../Cargo.toml)).workspace.package.version;
  src = builtins.path {
    path = ../.;
    name = "workspace";
    filter =
      path: type:
      builtins.match "(Cargo\\.(toml|lock)|(images|tests|xtask)(/.*)?)" (
        builtins.substring (builtins.stringLength top) (-1) path
      ) != null;
  };
  cargoLock.lockFile = ../Cargo.lock;
  cargoBuildFlags = [
    "--package"
    "xtask"
  ];
  buildInputs = [ pkgs.glibc.static ];
  RUSTFLAGS = "-C target-feature=+crt-static";
  auditable = false;
  doCheck = false;
}
