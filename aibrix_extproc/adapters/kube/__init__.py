"""The fleet from a Kubernetes API: watches, never a list per request. The only package that imports `kubernetes`.

It uses the package to find and reach a cluster (kubeconfig, service account, token plugins, TLS, proxies). The watches
are our own: the package's asyncio client has no informers, and its `Watch` restarts without reporting it.
"""
