#!/bin/sh
# Collects every sentence of the pages into taskapp.pot, and brings it to the catalogues beside it.
set -eu
babel="$1"
languages="${2:-templates/languages}"
"$babel" --quiet extract --mapping-file=pyproject.toml --no-default-keywords \
    --keyword=Message:1 --keyword=counted:1,2 --keyword=_ --keyword=ngettext:1,2 \
    --add-location=file --sort-by-file --omit-header --no-wrap --output="$languages/taskapp.pot" .
for catalogue in "$languages"/*.po; do
    language=$(basename "$catalogue" .po)
    "$babel" --quiet update --no-fuzzy-matching --ignore-obsolete --ignore-pot-creation-date \
        --no-wrap --locale="$language" \
        --input-file="$languages/taskapp.pot" --output-file="$catalogue"
    # The version of Babel says nothing about the words, and would change with each update of it.
    grep -v '^"Generated-By: ' "$catalogue" > "$catalogue.new"
    mv "$catalogue.new" "$catalogue"
done
