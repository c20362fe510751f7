"""How slow this machine is: for tests that say how long something may take.

**Interface:** :data:`SLOWNESS`, :data:`PATIENCE`.
"""

import os

# In a virtual machine without KVM every instruction is translated: `nox -s vm` says 20 there.
SLOWNESS = float(os.environ.get("MINIDOCK_SLOWNESS", "1"))

# Timeouts, which only end what hangs, are generous already: less is added to them.
PATIENCE = max(1.0, SLOWNESS / 5)
