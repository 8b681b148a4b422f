#!/bin/sh
# Starts nginx with the names of this cluster: its DNS server and the domain of this namespace are what resolv.conf says.
set -eu
resolver=$(sed -n 's/^nameserver[[:space:]]*//p' /etc/resolv.conf | head -n 1)
domain=$(sed -n 's/^search[[:space:]]*\([^[:space:]]*\).*/\1/p' /etc/resolv.conf)
case $domain in
*.svc.*) ;;
*)
	echo "start.sh: resolv.conf has no search domain of a namespace" >&2
	exit 1
	;;
esac
case $resolver in *:*) resolver="[$resolver]" ;; esac
for file in nginx patchbay-http patchbay-nodes patchbay patchbay-locations; do
	sed "s/@RESOLVER@/$resolver/; s/@DOMAIN@/$domain/g" "/config/$file.conf" >"/run/nginx/$file.conf"
done
ulimit -n "$(ulimit -H -n)"
exec nginx -c /run/nginx/nginx.conf
