# SPDX-License-Identifier: Apache-2.0
"""What t/bench/compare is made of: place (folder, ports, processes), upstream (the mock), httpd and others (the contenders),
load (what is measured), runs (which measurements in which order), report (tables)."""
