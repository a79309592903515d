"""TLS from Envoy to the processors: who they must be, and who Envoy is."""

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google import protobuf

from aibrix_extproc.adapters.envoyproxy.spec import ProcessorTls


def mutual_tls(files: ProcessorTls) -> core.TransportSocket:
    """The transport socket of the processors' cluster."""
    name = tls.SubjectAltNameMatcher(
        san_type=tls.SubjectAltNameMatcherSanType.DNS, matcher=matcher.StringMatcher(exact=files.server_name)
    )
    common = tls.CommonTlsContext(
        tls_params=tls.TlsParameters(tls_maximum_protocol_version=tls.TlsParametersTlsProtocol.TLSv1_3),
        tls_certificates=[
            tls.TlsCertificate(
                certificate_chain=core.DataSource(filename=str(files.certificate)),
                private_key=core.DataSource(filename=str(files.key)),
            )
        ],
        validation_context=tls.CertificateValidationContext(
            trusted_ca=core.DataSource(filename=str(files.ca)), match_typed_subject_alt_names=[name]
        ),
    )
    context = tls.UpstreamTlsContext(common_tls_context=common, sni=files.server_name)
    return core.TransportSocket(name="envoy.transport_sockets.tls", typed_config=protobuf.Any.pack(context))
