"""How numbers, histograms and tables are shown; takes plain values and returns text or rich renderables."""
