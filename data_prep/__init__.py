"""Raw text -> prepared folder: read, count, learn BPE, encode, publish; downloads; verification."""
