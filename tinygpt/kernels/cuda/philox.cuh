// The random bits of dropout: those of keep_mask in ops/dropout.py, to the bit.

typedef unsigned long long u64;

// What NumPy's Philox gives for its block number c: 256 bits, from which 16 elements get 16 each.
// Philox4x64-10: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3.
// NumPy counts before it draws, so its first block has counter 1.
DEVICE void philox(u64 (&words)[4], u64 block, const u64 *key) {
    u64 key0 = key[0], key1 = key[1];
    u64 x0 = block + 1, x1 = 0, x2 = 0, x3 = 0;
#pragma unroll 1
    for (int round = 0; round < 10; round++) {
        u64 high0 = __umul64hi(0xD2E7470EE14C6C93, x0), low0 = 0xD2E7470EE14C6C93 * x0;
        u64 high1 = __umul64hi(0xCA5A826395121157, x2), low1 = 0xCA5A826395121157 * x2;
        x0 = high1 ^ x1 ^ key0;
        x1 = low1;
        x2 = high0 ^ x3 ^ key1;
        x3 = low0;
        key0 += 0x9E3779B97F4A7C15;
        key1 += 0xBB67AE8584CAA73B;
    }
    words[0] = x0;
    words[1] = x1;
    words[2] = x2;
    words[3] = x3;
}

// What dropout draws with. An element stays where its 16 bits are at least `threshold`.
struct Dropout {
    const u64 *key;      // two numbers
    unsigned threshold;  // p, in steps of 1 / 65536; 0 for no dropout
};

// Bit i says whether element 16 block + i stays.
DEVICE unsigned kept_block(Dropout dropout, u64 block) {
    u64 words[4];
    philox(words, block, dropout.key);
    unsigned kept = 0;
    for (int i = 0; i < 16; i++) {
        unsigned bits = (words[i / 4] >> (16 * (i % 4))) & 0xffff;
        kept |= (unsigned)(bits >= dropout.threshold) << i;
    }
    return kept;
}

// Bit i says whether element e + i stays, for i below 16.
DEVICE unsigned kept_from(Dropout dropout, u64 e) {
    unsigned kept = kept_block(dropout, e / 16), skip = e % 16;
    if (skip) kept = kept >> skip | kept_block(dropout, e / 16 + 1) << (16 - skip);
    return kept & 0xffff;
}
