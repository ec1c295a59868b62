#!/bin/sh
# Installs what `make bench` compares crowdgate with, where it is missing. What cannot be installed is not measured.
set -eu
PATH="$PATH:/usr/sbin"
missing=""
command -v nginx >/dev/null || missing="$missing nginx"
command -v varnishd >/dev/null || missing="$missing varnish"
command -v haproxy >/dev/null || missing="$missing haproxy"
command -v wrk >/dev/null || missing="$missing wrk"
command -v redis-server >/dev/null || missing="$missing redis-server"
[ -n "$missing" ] || exit 0
remedy="not installed:$missing (apt-get install$missing)"
command -v apt-get >/dev/null || { echo "$remedy" >&2; exit 0; }
if [ "$(id -u)" = 0 ]; then sudo=""; elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo="sudo"; else
    echo "$remedy" >&2
    exit 0
fi
echo "installing$missing ..."
# apt must not start them, on port 80 or any other: the benchmark starts its own, on ports and folders of their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod +x "$policy"
    trap '$sudo rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
install() { $sudo apt-get -qq -y --no-install-recommends install $missing >/dev/null; }
install 2>/dev/null || { $sudo apt-get -qq update >/dev/null && install; } || echo "$remedy" >&2
