"""How slow this machine is: for tests that say how long something may take.

**Interface:** :data:`SLOWNESS`.
"""

import os

# In a virtual machine without KVM every instruction is translated: `nox -s vm` says 20 there.
SLOWNESS = float(os.environ.get("MINIDOCK_SLOWNESS", "1"))
