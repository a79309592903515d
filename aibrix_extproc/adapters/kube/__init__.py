"""The fleet from a Kubernetes API: watches, never a list per request. The only package that imports `kubernetes`.

Of that package it uses how a cluster is reached (kubeconfig, service account, token plugins, TLS, proxies). Its asyncio
client has no informers, and its `Watch` starts again by itself without telling, so the watches are our own.
"""
