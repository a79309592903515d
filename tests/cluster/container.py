"""A process that sees files where a container would: the machine's root, with folders of its own mounted over it."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

# In a mount namespace of its own, so that nothing is left behind: /mnt becomes the root, with the machine's folders in
# it. /run is empty, for what pods find in /var/run.
_SCRIPT: Final = """
set -e
[ -z "$HOSTNAME" ] || hostname "$HOSTNAME"
mount -t tmpfs none /mnt
for one in /*; do
  [ "$one" = /mnt ] && continue
  if [ -L "$one" ]; then cp -P "$one" /mnt/; continue; fi
  if [ -d "$one" ]; then mkdir "/mnt$one"; mount --rbind "$one" "/mnt$one"; fi
done
mount -t tmpfs none /mnt/run
while [ "$1" != -- ]; do [ ! -d "$1" ] || mkdir -p "/mnt$2"; mount --bind "$1" "/mnt$2"; shift 2; done
shift
exec chroot /mnt "$@"
"""


def start_contained(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    folders: Mapping[str, Path],
    *,
    log: Path,
) -> subprocess.Popen[bytes]:
    """Start a command with these folders, and files, at these paths. Its pid is the command's own."""
    mounts = [str(part) for path, folder in folders.items() for part in (folder, path.replace("/var/run/", "/run/"))]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment}
    whole = ["unshare", "--mount", "--uts", "sh", "-c", _SCRIPT, "sh", *mounts, "--", *map(str, command)]
    with log.open("ab") as output:
        return subprocess.Popen(whole, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
