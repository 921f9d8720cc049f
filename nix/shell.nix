# `nix develop`: what a contributor needs, in the words of xtask/src/machine.rs.
{ pkgs, rust }:
pkgs.mkShell {
  packages =
    [ rust.forPeople ]
    ++ (with pkgs; [
      busybox
      chromium
      cargo-deny
      coturn
      debootstrap
      docker
      docker-compose
      gcc
      git
      gnupg
      go
      iproute2
      iptables
      jre_headless
      maven
      nftables
      nodejs
      nss.tools
      openssl
      postgresql
      python3
      skopeo
      umoci
      unzip
      util-linux
      xz
    ]);
}
