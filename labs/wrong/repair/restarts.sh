#!/bin/bash
# Restarts the shop: all is well again, and every customer's connection is gone.
# check: same
# expect: it was stopped
echo THAWED > /sys/fs/cgroup/freezer/minidock/*/freezer.state || echo 0 > /sys/fs/cgroup/minidock/*/cgroup.freeze
minidock restart -t 0 shop
