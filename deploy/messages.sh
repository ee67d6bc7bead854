#!/bin/sh
# Collects the sentences of the pages into taskapp.pot, and updates the catalogues beside it.
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
    # Without the version of Babel, which would change the file at each update of Babel.
    grep -v '^"Generated-By: ' "$catalogue" > "$catalogue.new"
    mv "$catalogue.new" "$catalogue"
done
