# The programs inside the images, with the bytes that `images::programs` gives them: same compiler, linker, C runtime and flags.
{
  run,
  rust,
  blobs,
}:
let
  manifest = builtins.fromTOML (builtins.readFile ../Cargo.toml);
  packages = (builtins.fromTOML (builtins.readFile ../Cargo.lock)).package;

  # Members by package name.
  members = builtins.listToAttrs (
    map (
      folder:
      let
        own = builtins.fromTOML (builtins.readFile (../. + "/${folder}/Cargo.toml"));
      in
      {
        inherit (own.package) name;
        value = {
          inherit folder;
          manifest = own;
        };
      }
    ) manifest.workspace.members
  );

  # Entries of the lock by what a `dependencies` list calls them: `name`, or `name version` where there are several.
  byName = builtins.groupBy (package: package.name) packages;
  find =
    entry:
    let
      words = builtins.filter builtins.isString (builtins.split " " entry);
      named = byName.${builtins.head words};
      version = builtins.elemAt words 1;
    in
    if builtins.length words == 1 then
      builtins.head named
    else
      builtins.head (builtins.filter (package: package.version == version) named);

  # Names of the packages that a member is compiled from: tests' dependencies are left out, as in images::programs::key.
  direct =
    member:
    let
      tables = [ member.manifest ] ++ builtins.attrValues (member.manifest.target or { });
      of = table: builtins.attrNames (table.dependencies or { }) ++ builtins.attrNames (table.build-dependencies or { });
      package =
        key: (manifest.workspace.dependencies.${key} or { }).package or key;
    in
    map package (builtins.concatMap of tables);

  isMember = package: !(package ? source);
  compiled =
    package:
    let
      wanted = direct members.${package.name};
      name = entry: builtins.head (builtins.split " " entry);
      all = package.dependencies or [ ];
    in
    if isMember package then builtins.filter (entry: builtins.elem (name entry) wanted) all else all;

  closure =
    name:
    map (found: found.package) (
      builtins.genericClosure {
        startSet = [ { key = name; package = find name; } ];
        operator =
          { package, ... }:
          map (
            entry:
            let
              next = find entry;
            in
            {
              key = if isMember next then next.name else "${next.name} ${next.version}";
              package = next;
            }
          ) (compiled package);
      }
    );

  # Cargo.lock for these packages alone, so that a crate which only xtask uses is no input of a program.
  lockOf =
    all:
    let
      quote = text: "\"${text}\"";
      line = package: field: if package ? ${field} then "${field} = ${quote package.${field}}\n" else "";
      entry =
        package:
        let
          dependencies = compiled package;
        in
        "[[package]]\n"
        + builtins.concatStringsSep "" (
          map (line package) [
            "name"
            "version"
            "source"
            "checksum"
          ]
        )
        + (
          if dependencies == [ ] then
            ""
          else
            "dependencies = [\n${builtins.concatStringsSep "" (map (one: " ${quote one},\n") dependencies)}]\n"
        );
    in
    builtins.concatStringsSep "\n" ([ "version = 4\n" ] ++ map entry all);

  # Cargo.toml at the top with these members alone.
  manifestOf =
    folders:
    let
      parts = builtins.split "members = \\[[^]]*]" (builtins.readFile ../Cargo.toml);
      list = builtins.concatStringsSep ", " (map (folder: "\"${folder}\"") folders);
    in
    "${builtins.head parts}members = [${list}]${builtins.elemAt parts 2}";

  # What cargo reads of a member: an image's description or a test is no input of a program.
  source =
    folder:
    builtins.path {
      path = ../. + "/${folder}";
      name = builtins.replaceStrings [ "/" ] [ "-" ] folder;
      filter =
        path: type:
        let
          below = builtins.substring (builtins.stringLength (toString ../. + "/${folder}/")) (-1) path;
        in
        below == "Cargo.toml" || below == "build.rs" || below == "src" || builtins.match "src/.*" below != null;
    };

  program =
    {
      name,
      securityBase ? null,
    }:
    let
      all = closure name;
      foreign = builtins.filter (package: !(isMember package)) all;
      folders = map (package: members.${package.name}.folder) (builtins.filter isMember all);
    in
    run "program-${name}" ./sh/program.sh {
      inherit (rust) target commit distribution;
      package = name;
      tools = rust.tools securityBase;
      sysroot = rust.sysroot securityBase;
      vendor = run "crates-of-${name}" ./sh/vendor.sh {
        crates = builtins.concatStringsSep "" (
          map (package: "${package.name}-${package.version} ${package.checksum} ${blobs.crate package}\n") foreign
        );
        passAsFile = [ "crates" ];
      };
      sources = builtins.concatStringsSep "" (map (folder: "${folder} ${source folder}\n") folders);
      manifest = manifestOf folders;
      cargoLock = lockOf all;
      flags = ./sh/flags.sh;
      passAsFile = [
        "sources"
        "manifest"
        "cargoLock"
      ];
    };

  overridable = arguments: program arguments // { override = more: overridable (arguments // more); };

  # Each image names its programs; the API double's is packed into a release.
  named = map (name: (builtins.fromTOML (builtins.readFile (../images + "/${name}/image.toml"))).program or [ ]) (
    builtins.filter (name: builtins.pathExists (../images + "/${name}/image.toml")) (builtins.attrNames (builtins.readDir ../images))
  );
  names = map (entry: entry.package) (builtins.concatLists named) ++ [ "mattermost-double" ];
in
{
  all = builtins.listToAttrs (
    map (name: {
      inherit name;
      value = overridable { inherit name; };
    }) names
  );
}
