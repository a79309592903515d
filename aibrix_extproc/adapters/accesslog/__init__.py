"""Envoy's gRPC access log: messages in, records out. It serves nothing itself; the gateway's gRPC server carries it."""
