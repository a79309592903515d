"""Keys of the targets that figures and scenarios name."""

from typing import Final

PLAIN: Final = "plain"  # the targets that the others are compared with
BARE: Final = "bare"
BARE_H2: Final = "bare-h2"
BARE_LEAN: Final = "bare-lean"  # the floor of LEAN
REFERENCE: Final = "grpcio"  # this project's transports
LEAN: Final = "lean"
METERED_REFERENCE: Final = "grpcio-metered"
METERED: Final = "metered"  # lean with all that `local` switches on, and its reference above
