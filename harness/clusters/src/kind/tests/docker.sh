#!/bin/sh
# Stands in for `docker` in unit tests: nodes are derived from the files that stand for clusters.
S="$(dirname "$0")/state"
echo "docker $*" >> "$S/log"
in_node() {
  [ "$1" = "--interactive" ] && shift
  node="$1"
  tool="$2"
  shift 2
  case "$tool" in
    iptables)
      table="$4"; verb="$5"; chain="$6"
      shift 6
      rules="$S/rules.$node.$table.$chain"
      touch "$rules"
      case "$verb" in
        -I) echo "-A $chain $*" >> "$rules" ;;
        -D)
          [ -e "$S/stuck" ] && exit 1
          grep -qxF -e "-A $chain $*" "$rules" || exit 1
          grep -vxF -e "-A $chain $*" "$rules" > "$rules.new"
          mv "$rules.new" "$rules"
          ;;
        -S) cat "$rules" ;;
      esac
      ;;
    iptables-save) cat "$S"/rules."$node".* 2> /dev/null; true ;;
    tc)
      queues="$S/queues.$node"
      touch "$queues"
      case "$*" in
        "qdisc show dev eth0") cat "$queues" ;;
        "qdisc add dev eth0 root"*) echo "qdisc prio 1: root" >> "$queues" ;;
        "qdisc add dev eth0 parent"*) echo "qdisc netem $8 parent $6 limit 100000" >> "$queues" ;;
        "qdisc del dev eth0 root") : > "$queues" ;;
        "qdisc del dev eth0 parent"*) grep -v "netem $8 " "$queues" > "$queues.new"; mv "$queues.new" "$queues" ;;
        "filter"*) ;;
      esac
      ;;
    sh)
      outer="$node"
      iptables() { (in_node "$outer" iptables "$@"); }
      tc() { (in_node "$outer" tc "$@"); }
      eval "$2"
      ;;
    ip | mkdir | cp) ;;
    *) echo "not in the node: $tool" >&2; exit 1 ;;
  esac
}
case "$1 $2" in
  "network inspect")
    if [ -e "$S/network.json" ]; then cat "$S/network.json"; else
      echo "[]"
      echo "Error response from daemon: network $3 not found" >&2
      exit 1
    fi
    ;;
  "network rm") rm "$S/network.json" ;;
  "inspect --type")
    [ -e "$S/garbage-inspect" ] && { echo "<html>"; exit 0; }
    if [ "$4" = "--format" ]; then
      [ -e "$S/cache.$6" ] && { echo running; exit 0; }
      echo "Error response from daemon: No such container: $6" >&2
      exit 1
    fi
    shift 3
    separator="["
    for node in "$@"; do
      printf '%s{"Name": "/%s", "State": {"Status": "running"}, "Config": {"Labels": {"io.x-k8s.kind.role": "control-plane"}}, "NetworkSettings": {"Networks": {"kind": {"IPAddress": "%s"}}}}' "$separator" "$node" "$(cat "$S/addresses/$node")"
      separator=","
    done
    echo "]"
    ;;
  "ps --all")
    case "$4" in
      label=io.x-k8s.kind.cluster=*)
        name="${4#label=io.x-k8s.kind.cluster=}"
        if [ -e "$S/clusters/$name" ]; then echo "$name-control-plane"; fi
        ;;
      label=dev.meshproof.environment) cat "$S/labelled" 2> /dev/null; true ;;
    esac
    ;;
  "rm --force")
    shift 3
    if [ ! -e "$S/stubborn" ]; then
      for container in "$@"; do
        rm -f "$S/clusters/${container%-control-plane}"
        if [ -e "$S/labelled" ]; then grep -v " $container\$" "$S/labelled" > "$S/labelled.new"; mv "$S/labelled.new" "$S/labelled"; fi
      done
    fi
    ;;
  "exec "*) shift; in_node "$@" ;;
  "volume create") echo "${4#*=} $5" >> "$S/volumes" ;;
  "run --detach") touch "$S/cache.$4" ;;
  "logs --tail") echo 'level=info msg="listening on [::]:5000"' >&2 ;;
  "volume ls") cat "$S/volumes" 2> /dev/null; true ;;
  "volume rm") shift 2; for volume in "$@"; do grep -v " $volume\$" "$S/volumes" > "$S/volumes.new"; mv "$S/volumes.new" "$S/volumes"; done ;;
  *) echo "unknown command" >&2; exit 1 ;;
esac
