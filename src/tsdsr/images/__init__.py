"""Reading and writing image files, with colour conversion, metadata and transparency. Independent of torch."""
