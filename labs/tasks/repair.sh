#!/bin/bash
# Repair the shop while it runs. `minidock` and all of the machine's tools are at hand.

echo "repair.sh does nothing yet"
