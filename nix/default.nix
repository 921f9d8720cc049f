# The second door: the images of this checkout as Nix derivations, with the digests of `cargo xtask images` (docs/nix.md).
#
# `pkgs` is nixpkgs, or what tests/nix/shim puts in its place. What is taken from it decides no byte of an image: fetchers, whose results
# are held to a hash, a static busybox, whose shell runs the builders, and what builds xtask and the shell for contributors.
{ pkgs }:
let
  lock = builtins.fromJSON (builtins.readFile ../images/lock.json);

  # `busybox` runs every builder: a shell, tar and xz in one static file.
  busybox = pkgs.pkgsStatic.busybox;

  # A derivation without stdenv: a script under busybox, in Nix's sandbox. `passAsFile`, so that no list meets the limit of an environment.
  run =
    name: script: variables:
    derivation (
      {
        inherit name;
        system = "x86_64-linux";
        builder = "${busybox}/bin/sh";
        args = [
          ./sh/start.sh
          script
        ];
        PATH = "${busybox}/bin";
      }
      // variables
    );

  blobs = import ./blobs.nix { inherit pkgs lock; };
  rust = import ./rust.nix { inherit pkgs run blobs; };
  programs = import ./programs.nix { inherit run rust blobs; };
  xtask = import ./xtask.nix { inherit pkgs rust blobs; };
  images = import ./images.nix {
    inherit
      lock
      run
      blobs
      programs
      xtask
      ;
  };
  prefixed =
    prefix: set:
    builtins.listToAttrs (
      map (name: {
        name = "${prefix}-${name}";
        value = set.${name};
      }) (builtins.attrNames set)
    );
  # What can be had without the vendor's release: the same list as README's for a machine that cannot reach its host.
  open = removeAttrs images.all [ "mattermost" ];
  app = script: {
    type = "app";
    program = "${pkgs.writeShellScriptBin "chatops" script}/bin/chatops";
  };
in
{
  inherit images programs;
  packages = {
    default = images.together;
    images = images.together;
    inherit xtask;
  }
  // prefixed "image" images.all
  // prefixed "program" programs.all;

  # Run at the top of the checkout.
  apps = {
    default = app ''exec ${xtask}/bin/xtask "$@"'';
    e2e = app ''exec ${xtask}/bin/xtask e2e "$@"'';
  };

  checks = prefixed "image" open // prefixed "program" programs.all;

  shell = import ./shell.nix { inherit pkgs rust; };
  formatter = pkgs.nixfmt-tree;
}
