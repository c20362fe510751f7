#!/bin/bash
# Leads the port to the same number in the container, where nobody listens.
# check: published
# expect: (?s)the element 127.0.0.1 . tcp . 8080 .*8080 : \S+ . 8080
address=$(minidock inspect -f '{{.NetworkSettings.IPAddress}}' shop)
nft add element ip lab0 one_address "{ 127.0.0.1 . tcp . 8080 : $address . 8080 }"
