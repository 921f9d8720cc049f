# Unpacks components of the Rust distribution over each other, as rustup does. Documentation is left out.
mkdir "$out"
for component in $components; do
    # NAME-VERSION-TARGET/COMPONENT/…: what lies in the component is what counts.
    tar -xzf "$component" -C "$out" --strip-components=2
done
rm -rf "$out/share" "$out/manifest.in" "$out/etc"
