"""A feed reader: fetches, parses, classifies, stores. A plain loop first, then a pipeline, then on dask."""
