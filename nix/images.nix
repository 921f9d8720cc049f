# Each image is one derivation: xtask runs over files of the store, as it does over its own store in a checkout.
{
  lock,
  run,
  blobs,
  programs,
  xtask,
}:
let
  spec = name: builtins.fromTOML (builtins.readFile (../images + "/${name}/image.toml"));
  names = builtins.filter (name: builtins.pathExists (../images + "/${name}/image.toml")) (
    builtins.attrNames (builtins.readDir ../images)
  );

  # cas             the site's CA certificates in PEM, as paths: they become the top layer, and without one there is none
  # edition         of a release that has several
  # withoutPlugins  plugins of the spec that are left out
  # double          Mattermost's place is taken by the API double (docs/double.md)
  # securityBase    where Debian's security archive is, else its packages have to be in the store (blobs.nix)
  image =
    arguments@{
      name,
      cas ? [ ],
      edition ? "enterprise",
      withoutPlugins ? [ ],
      double ? false,
      securityBase ? null,
    }:
    let
      described = spec name;
      editionOf =
        release:
        let
          known = builtins.attrNames release.editions;
        in
        release.editions.${if builtins.length known == 1 then builtins.head known else edition};
      left = name: builtins.elem name withoutPlugins || double;
      vendors =
        (if double then [ ] else map (release: blobs.artefact "release" (editionOf release)) (described.release or [ ]))
        ++ map (plugin: blobs.artefact "plugin" plugin.artefact) (
          builtins.filter (plugin: !(left plugin.artefact)) (described.plugin or [ ])
        );
      # A plugin that nobody has verified has no hash to fetch it by: the assembler says so, and what to do.
      artefacts = map (blobs.artefact "deb") lock.groups.${name}.packages ++ builtins.filter (artefact: artefact ? sha256) vendors;
      built = map (entry: entry.package) (described.program or [ ]) ++ (if double then [ "mattermost-double" ] else [ ]);
      options =
        [
          "--edition"
          edition
        ]
        ++ (
          if double then
            [
              "--mattermost"
              "double"
            ]
          else
            [ ]
        )
        ++ builtins.concatMap (name: [
          "--without-plugin"
          name
        ]) withoutPlugins
        ++ (if cas == [ ] then [ "--no-ca" ] else [ ]);
      # A path that lies in the store has a hash before its name.
      fileName = path: builtins.elemAt (builtins.match "([0-9a-z]{32}-)?(.*)" (baseNameOf (toString path))) 1;
    in
    run "image-${name}${if double then "-double" else ""}" ./sh/image.sh {
      image = name;
      inherit xtask options;
      lock = ../images/lock.json;
      folder = builtins.path {
        path = ../images + "/${name}";
        name = "image-of-${name}";
      };
      vendor = if double then ../tests/mattermost-double/vendor else "";
      vendorKey = if double then ../tests/mattermost-double/src/plugins/vendor.asc else "";
      blobs = builtins.concatStringsSep "" (
        map (artefact: "${artefact.sha256} ${blobs.fetch securityBase artefact}\n") artefacts
      );
      programs = map (
        name: "${programs.all.${name}.override { inherit securityBase; }}/bin/${name}"
      ) built;
      cas = builtins.concatStringsSep "" (map (ca: "${fileName ca} ${ca}\n") cas);
      passAsFile = [
        "blobs"
        "cas"
      ];
    }
    // {
      override = more: image (arguments // more);
    };
in
rec {
  all =
    builtins.listToAttrs (
      map (name: {
        inherit name;
        value = image { inherit name; };
      }) names
    )
    // {
      mattermost-double = image {
        name = "mattermost";
        double = true;
      };
    };

  # A folder of layouts, one an image.
  together = run "images" ./sh/images.sh {
    images = builtins.concatStringsSep "" (map (name: "${name} ${all.${name}}\n") names);
    passAsFile = [ "images" ];
  };
}
