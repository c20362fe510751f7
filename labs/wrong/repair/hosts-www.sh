#!/bin/bash
# Copies a page over the dust instead of unmounting it; the shop's own page stays hidden.
# check: files
# expect: /proc/\d+/mountinfo has 1 mount\(s\) there
pid=$(minidock inspect -f '{{.State.Pid}}' shop)
echo Fresh bread > "/proc/$pid/root/www/index.html"
