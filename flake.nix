{
  description = "Chat and calls for a closed network: reproducible images of Mattermost, Coturn, PostgreSQL and an alert gateway";

  # The only input. What it is used for stands in nix/default.nix: fetchers, a shell, and what builds xtask; none of it reaches an image.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";

  outputs =
    { self, nixpkgs }:
    let
      system = "x86_64-linux";
      door = import ./nix { pkgs = nixpkgs.legacyPackages.${system}; };
    in
    {
      packages.${system} = door.packages;
      apps.${system} = door.apps;
      checks.${system} = door.checks;
      devShells.${system}.default = door.shell;
      formatter.${system} = door.formatter;
    };
}
