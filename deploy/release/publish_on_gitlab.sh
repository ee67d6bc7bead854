#!/bin/sh
# Uploads the files of dist/ to GitLab's package registry, and creates a release that links to them.
set -eu
project="$CI_API_V4_URL/projects/$CI_PROJECT_ID"
packages="$project/packages/generic/taskapp/${CI_COMMIT_TAG#v}"
set -- --fail --silent --show-error --header "JOB-TOKEN: $CI_JOB_TOKEN"
links=""
for file in dist/*; do
    name=$(basename "$file")
    curl "$@" --upload-file "$file" --output /dev/null "$packages/$name"
    links="$links --data-urlencode assets[links][][name]=$name"
    links="$links --data-urlencode assets[links][][url]=$packages/$name"
done
# shellcheck disable=SC2086  # split into words on purpose: no file name has a space
curl "$@" --output /dev/null --data-urlencode "tag_name=$CI_COMMIT_TAG" \
    --data-urlencode "description@build/release-notes.md" $links "$project/releases"
