"""OpenVINO models on disk, and the rewrites that its CPU plugin has fast kernels for."""
