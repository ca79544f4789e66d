"""Tests of what is deployed: images and compose in docker/, the chart in helm/, and the tools that they need."""
