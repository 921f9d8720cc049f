# Foreign files as fixed-output fetches. images/lock.json and Cargo.lock are the only locks: each fetch has the hash that stands there, and
# a path in the store that follows from hash and name alone, so `cargo xtask images fetch --nix` can put the file there beforehand.
{ pkgs, lock }:
let
  # Store names know fewer characters than file names: not the colon of a Debian epoch, nor `%` and `~`. The same as `store_name` in
  # xtask/src/nix/blobs.rs.
  storeName =
    file: builtins.concatStringsSep "_" (builtins.filter builtins.isString (builtins.split "[^A-Za-z0-9+._?=-]" file));
in
rec {
  artefact =
    kind: name:
    let
      found = builtins.filter (artefact: artefact.kind == kind && artefact.name == name) lock.artefacts;
    in
    if found == [ ] then throw "images/lock.json has no ${kind} ${name}: cargo xtask images lock" else builtins.head found;

  # The file of an artefact. `securityBase` is the address that `pool/` of Debian's security archive lies below.
  fetch =
    securityBase: artefact:
    let
      path = artefact.from.path or artefact.from.url;
      file = {
        name = storeName (baseNameOf path);
        inherit (artefact) sha256;
      };
      url = url: pkgs.fetchurl (file // { inherit url; });
    in
    if artefact.from ? url then
      url artefact.from.url
    else if artefact.from.repository == "main" then
      url "mirror://debian/${path}"
    else if securityBase != null then
      url "${securityBase}/${path}"
    else
      pkgs.requireFile (
        file
        // {
          message = ''
            ${artefact.name} ${artefact.version} is in Debian's security archive, and nixpkgs knows no mirror of that.
            This brings it, with everything else, from the mirror in this machine's apt settings:
              cargo xtask images fetch --nix
            This lets Nix fetch it, for the image that it is said of:
              .override { securityBase = "https://HOST/debian-security"; }
          '';
        }
      );

  debs = securityBase: names: map (name: fetch securityBase (artefact "deb" name)) names;

  crate =
    package:
    pkgs.fetchCrate {
      name = storeName "crate-${package.name}-${package.version}.tar.gz";
      pname = package.name;
      inherit (package) version;
      sha256 = package.checksum;
      unpack = false;
    };

  # What the programs are linked with: the packages of the lock's group `toolchain`.
  toolchain = lock.groups.toolchain.packages;
}
