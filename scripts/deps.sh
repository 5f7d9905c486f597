#!/usr/bin/env bash
# Installs redis-server, which the tests run as a child, unless it is in PATH. The program is content with
# valkey-server, the tests of clusters and Sentinels are not. The system's own Redis service is not started.
set -euo pipefail

have_server() { command -v redis-server >/dev/null; }

if have_server; then
	exit 0
fi

hint() {
	echo "The tests need redis-server 7.0 or newer in PATH. $1" >&2
	echo "  Debian, Ubuntu: apt-get install redis-server" >&2
	echo "  macOS: brew install redis                        Alpine: apk add redis" >&2
	echo "  Valkey serves as well: link its valkey-server as redis-server into a folder of PATH." >&2
	exit 1
}

command -v apt-get >/dev/null || hint "Install it:"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
	sudo -n true 2>/dev/null || hint "Installing it needs root; run this as root, or install it:"
	as_root=(sudo -n)
fi

# Exit status 101 of policy-rc.d tells the package not to start its service. One that is there already stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap '"${as_root[@]}" rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
	"${as_root[@]}" chmod 755 "$policy"
fi

echo "Installing redis-server for the tests." >&2
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y)
"${apt[@]}" update >&2 || echo "apt-get update failed; trying with the package lists that are there." >&2
"${apt[@]}" install --no-install-recommends redis-server >&2 || hint "apt-get could not install it. Install it:"
have_server || hint "apt-get installed redis-server, but it is not in PATH. Install it:"
