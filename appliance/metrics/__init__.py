"""What is counted, how the hot path counts it, and how it is shown.

In: increments and observations in each process; once a second each process pushes its totals to control. Out:
one Prometheus exposition for the whole appliance.

Always: a metric exists only if `names` declares it, with its labels and the processes that may report it; the
number of label values is bounded, what is over becomes "other"; no label holds a secret, a placeholder, a
path or anything else that an agent chooses freely.

    names       every metric: name, kind, help, labels, buckets, who reports it
    tally       plain-integer counters and fixed-bucket histograms for the hot path, without prometheus_client
    merge       what the processes pushed, checked and added up; counters of dead workers stay
    exposition  the text that Prometheus reads
"""
