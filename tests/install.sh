#!/bin/sh
# Installs the servers that tests run for real. Where that is not possible, those tests are skipped and say so.
set -eu
PATH="$PATH:/usr/sbin"
missing=""
command -v redis-server >/dev/null || missing="$missing redis-server"
command -v mariadbd >/dev/null || missing="$missing mariadb-server-core mariadb-client-core"
command -v faketime >/dev/null || missing="$missing faketime"
[ -n "$missing" ] || exit 0
command -v apt-get >/dev/null || { echo "not installed, tests that need them are skipped:$missing" >&2; exit 0; }
if [ "$(id -u)" = 0 ]; then sudo=""; elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo="sudo"; else
    echo "not installed, tests that need them are skipped:$missing (apt-get install$missing)" >&2
    exit 0
fi
echo "installing$missing ..."
# A server that apt starts would be in the way: tests start their own, on ports and folders of their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod +x "$policy"
    trap '$sudo rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
install() { $sudo apt-get -qq -y --no-install-recommends install $missing >/dev/null; }
install 2>/dev/null || { $sudo apt-get -qq update >/dev/null && install; } || echo "could not install$missing: tests that need them are skipped" >&2
