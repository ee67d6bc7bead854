#!/bin/sh
# Pushes the images of dist/ as one, which has a part for each machine: push_image.sh NAME TAG
# Prints the name and the digest of the result.
set -eu
name=$1
version=${2#v}
set --
for file in dist/taskapp-image-linux-*.tar.gz; do
    machine=${file#dist/taskapp-image-linux-}
    part=$name:$version-${machine%.tar.gz}
    docker load --input "$file" >&2
    docker tag taskapp "$part" >&2
    docker push "$part" >&2
    set -- "$@" "$part"
done
docker buildx imagetools create --tag "$name:$version" --tag "$name:latest" "$@" >&2
digest=$(docker buildx imagetools inspect "$name:$version" --format '{{ .Manifest.Digest }}')
echo "name=$name"
echo "digest=$digest"
