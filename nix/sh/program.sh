# Compiles one program of the workspace, with what images::programs::cargo gives to cargo.
export workspace="$PWD/src" rust_source="$distribution/lib/rustlib/src/rust" linker="$tools/bin/rust-lld" commit sysroot
gcc=$(echo "$sysroot"/usr/lib/gcc/x86_64-linux-gnu/*)
export gcc HOME="$PWD/home" CARGO_HOME="$PWD/home"
mkdir src home
cp "$manifestPath" src/Cargo.toml
cp "$cargoLockPath" src/Cargo.lock
while read -r folder path; do
    mkdir -p "src/$folder"
    cp -r "$path/." "src/$folder"
    chmod -R u+w "src/$folder"
    # What only tests depend on is not here, and cargo would ask for it.
    awk '/^\[/ { left_out = /^\[dev-dependencies/ || /^\[\[(test|bench|example)\]\]/ } !left_out' \
        "$path/Cargo.toml" >"src/$folder/Cargo.toml"
done <"$sourcesPath"
cat >home/config.toml <<EOF
[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = "$vendor"
EOF
{
    echo "#!$builder"
    cat "$flags"
} >wrapper
chmod +x wrapper
cd src
# Not --locked: cargo strikes out what only other members' features bring. It cannot choose anything else, for the folder of crates
# holds nothing but what Cargo.lock names. An empty RUSTC_WORKSPACE_WRAPPER is what images::programs sets: none at all gives the
# workspace's crates other symbol names.
export RUSTC="$tools/bin/rustc" RUSTC_WRAPPER="$workspace/../wrapper" RUSTC_WORKSPACE_WRAPPER="" CARGO_TERM_COLOR=never
"$tools/bin/cargo" build --quiet --offline --profile program --target "$target" --package "$package" --bin "$package" \
    --target-dir ../target
mkdir -p "$out/bin"
cp "../target/$target/program/$package" "$out/bin/"
