# One folder with a layout for each image.
mkdir "$out"
while read -r name layout; do
    ln -s "$layout" "$out/$name"
done <"$imagesPath"
