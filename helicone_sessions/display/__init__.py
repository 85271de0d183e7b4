"""Numbers, histograms and tables as text, HTML or rich renderables, from plain values."""
