# Builds one image into an OCI layout, with a checkout and a store made of links: `cargo xtask images NAME` in other clothes.
mkdir -p workspace/images/src store/blobs/sha256 programs cas
# xtask knows a checkout by this file.
: >workspace/images/src/lock.rs
ln -s "$lock" workspace/images/lock.json
ln -s "$folder" "workspace/images/$image"
if [ -n "$vendor" ]; then
    mkdir -p workspace/tests/mattermost-double/src/plugins
    ln -s "$vendor" workspace/tests/mattermost-double/vendor
    ln -s "$vendorKey" workspace/tests/mattermost-double/src/plugins/vendor.asc
fi
while read -r sha256 path; do
    ln -s "$path" "store/blobs/sha256/$sha256"
done <"$blobsPath"
for program in $programs; do
    ln -s "$program" programs/
done
set -- images "$image" --offline --store store --layout "$out" --memory memory --prebuilt programs $options
# A certificate's file name stands in the image.
while read -r name path; do
    ln -s "$path" "cas/$name"
    set -- "$@" --ca "cas/$name"
done <"$casPath"
HOME=$PWD CARGO_MANIFEST_DIR=$PWD/workspace "$xtask/bin/xtask" "$@"
rm -f "$out/.lock" "$out/.index.lock"
