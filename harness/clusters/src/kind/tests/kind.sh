#!/bin/sh
# Stands in for `kind` in unit tests: clusters are files.
S="$(dirname "$0")/state"
echo "kind $*" >> "$S/log"
verb="$1 $2"
previous=
for word in "$@"; do
  case "$previous" in
    --name) name="$word" ;;
    --kubeconfig) kubeconfig="$word" ;;
  esac
  previous="$word"
done
case "$verb" in
  "version ") if [ -e "$S/garbage-version" ]; then echo "who knows"; else echo "kind v0.31.0 go1.25.5 linux/amd64"; fi ;;
  "get clusters") ls "$S/clusters" ;;
  "create cluster")
    [ -e "$S/network.json" ] || cp "$S/network.json.made" "$S/network.json"
    touch "$S/clusters/$name"
    if [ -e "$S/hang" ]; then sleep 60; fi
    if [ -e "$S/fail.$name" ]; then
      rm "$S/clusters/$name"
      echo "ERROR: failed to create cluster: no space left on device" >&2
      exit 1
    fi
    if [ -e "$S/kubeconfigs/$name" ]; then cp "$S/kubeconfigs/$name" "$kubeconfig"; fi
    ;;
  "delete cluster") if [ ! -e "$S/stubborn" ]; then rm -f "$S/clusters/$name" "$S"/rules."$name"-*; fi ;;
  "load docker-image" | "load image-archive") ;;
  *) echo "unknown command" >&2; exit 1 ;;
esac
