#!/bin/sh
# make_certificate.sh FOLDER NAME ADDRESS SITE [ADDRESS-OF-THE-SITE]
# Makes NAME.pem, a certificate with its key, unless there is one for these names that is good for 90 days.
set -eu
folder=$1 name=$2 address=$3 site=$4 moving=${5:-}
names="DNS:$name,DNS:localhost,IP:127.0.0.1,IP:$address"
case $site in
    "$address" | "$moving") ;;
    *[!0-9.]*) names="$names,DNS:$site" ;;
    *) names="$names,IP:$site" ;;
esac
[ -z "$moving" ] || names="$names,IP:$moving"
if [ "$(cat "$folder/$name.names" 2>/dev/null)" = "$names" ] \
    && openssl x509 -checkend 7776000 -noout -in "$folder/$name.pem" >/dev/null; then
    exit 0
fi
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 825 -subj "/CN=$name" \
    -addext basicConstraints=critical,CA:FALSE -addext "subjectAltName=$names" \
    -addext extendedKeyUsage=serverAuth,clientAuth \
    -CA "$folder/authority.pem" -CAkey "$folder/authority.key" \
    -keyout "$folder/$name.key" -out "$folder/$name.crt" 2>/dev/null
cat "$folder/$name.crt" "$folder/$name.key" >"$folder/$name.new"
rm "$folder/$name.crt" "$folder/$name.key"
mv "$folder/$name.new" "$folder/$name.pem"
echo "$names" >"$folder/$name.names"
echo "made $name"
