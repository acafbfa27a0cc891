"""Models of any architecture that Optimum exports: nothing is known of them but their graphs and ports."""
