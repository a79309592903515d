"""Writes the Helm charts from the kustomize builds, so that both install the same objects.

`builds` runs kustomize, `variants` merges the base with what each component changes, `template` writes that as a Helm
template, `values` is the table of the chart's values, `write` puts the files in place.
"""
