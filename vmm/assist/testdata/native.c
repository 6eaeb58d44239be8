/*
 * Executes the assisted instructions on this processor and prints what they did, one JSON object a
 * line, for instructions_test.ts to compare with.
 */
#include <cpuid.h>
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define AREA 4096

static uint8_t full[AREA] __attribute__((aligned(64)));
static uint8_t area[AREA] __attribute__((aligned(64)));
static uint8_t after[AREA] __attribute__((aligned(64)));
static uint64_t state = 88172645463325252ull;

static uint64_t random64(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static void hex(const char *name, const uint8_t *bytes, int size, const char *end)
{
	printf("\"%s\":\"", name);
	for (int i = 0; i < size; i++)
		printf("%02x", bytes[i]);
	printf("\"%s", end);
}

static uint64_t xcr0(void)
{
	uint32_t low, high;

	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (uint64_t)high << 32 | low;
}

#define XSAVE(name, instruction, target) \
	static void name(uint64_t mask) \
	{ \
		__asm__ volatile(instruction " %0" : "+m"(target) \
			: "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32)) : "memory"); \
	}
XSAVE(save_full, "xsave64", full)
XSAVE(save, "xsave64", area)
XSAVE(save_opt, "xsaveopt64", area)
XSAVE(save_after, "xsave64", after)
XSAVE(restore_full, "xrstor64", full)
XSAVE(restore, "xrstor64", area)

/* The supervisor bits stay as they are: XCR0 only. */
static void random_state(uint64_t components)
{
	for (int i = 0; i < AREA; i++)
		full[i] = (uint8_t)random64();
	memset(full, 0, 32);
	full[0] = 0x7f; /* FCW */
	full[1] = 0x03;
	*(uint32_t *)(full + 24) = 0x1f80 | (uint32_t)(random64() & 0x8040);
	memset(full + 512, 0, 64);
	for (int i = 0; i < 8; i++) /* the high bytes of an x87 register's slot are reserved */
		memset(full + 32 + 16 * i + 10, 0, 6);
	memset(full + 416, 0, 96);
	*(uint64_t *)(full + 512) = components;
}

static void vector_cases(void)
{
	const uint64_t all = xcr0();

	for (int i = 0; i < 40; i++) {
		const uint64_t used = (i % 4 == 0 ? all : random64()) & all & 0xff;
		const uint64_t mask = i % 3 == 0 ? ~0ull : random64();
		const uint64_t restored = random64() & all & 0xff;
		const int optimised = i & 1;

		random_state(used);
		memset(after, 0, AREA);
		memset(area, 0xaa, AREA);
		memset(area + 512, 0, 64);
		*(uint64_t *)(area + 512) = all & 2;
		/* No call may come between these: it could use a vector register. */
		restore_full(~0ull);
		if (optimised)
			save_opt(mask);
		else
			save(mask);
		save_after(~0ull);
		printf("{\"kind\":\"save\",\"optimised\":%d,\"xcr0\":\"%llx\",\"mask\":\"%llx\",", optimised,
			(unsigned long long)all, (unsigned long long)mask);
		hex("state", after, AREA, ",");
		hex("area", area, AREA, "}\n");

		random_state(all & 0xff);
		memset(after, 0, AREA);
		for (int j = 0; j < AREA; j++)
			area[j] = (uint8_t)random64();
		*(uint32_t *)(area + 24) = 0x1f80;
		memset(area, 0, 24);
		memset(area + 416, 0, 96);
		area[0] = 0x7f;
		area[1] = 0x02;
		for (int j = 0; j < 8; j++)
			memset(area + 32 + 16 * j + 10, 0, 6);
		memset(area + 512, 0, 64);
		*(uint64_t *)(area + 512) = restored;
		restore_full(~0ull);
		restore(mask);
		save_after(~0ull);
		printf("{\"kind\":\"restore\",\"xcr0\":\"%llx\",\"mask\":\"%llx\",", (unsigned long long)all,
			(unsigned long long)mask);
		hex("before", full, AREA, ",");
		hex("area", area, AREA, ",");
		hex("after", after, AREA, "}\n");
	}
}

static void integer_cases(void)
{
	for (int i = 0; i < 40; i++) {
		const uint64_t source = i == 0 ? 0 : random64() >> (random64() & 63);
		uint64_t result = random64(), before = result, flags;

		__asm__ volatile("popcnt %2, %0; pushfq; popq %1"
			: "+r"(result), "=r"(flags) : "r"(source) : "cc");
		printf("{\"kind\":\"popcnt\",\"size\":8,\"source\":\"%llx\",\"before\":\"%llx\","
			"\"result\":\"%llx\",\"flags\":%llu}\n", (unsigned long long)source,
			(unsigned long long)before, (unsigned long long)result, (unsigned long long)flags);
		result = before;
		__asm__ volatile("popcntw %w2, %w0; pushfq; popq %1"
			: "+r"(result), "=r"(flags) : "r"(source) : "cc");
		printf("{\"kind\":\"popcnt\",\"size\":2,\"source\":\"%llx\",\"before\":\"%llx\","
			"\"result\":\"%llx\",\"flags\":%llu}\n", (unsigned long long)source,
			(unsigned long long)before, (unsigned long long)result, (unsigned long long)flags);
		result = before;
		__asm__ volatile("popcntl %k2, %k0; pushfq; popq %1"
			: "+r"(result), "=r"(flags) : "r"(source) : "cc");
		printf("{\"kind\":\"popcnt\",\"size\":4,\"source\":\"%llx\",\"before\":\"%llx\","
			"\"result\":\"%llx\",\"flags\":%llu}\n", (unsigned long long)source,
			(unsigned long long)before, (unsigned long long)result, (unsigned long long)flags);
	}
	for (int i = 0; i < 20; i++) {
		uint64_t memory[2] __attribute__((aligned(16))) = { random64(), random64() };
		const uint64_t old[2] = { memory[0], memory[1] };
		uint64_t a = i & 1 ? memory[0] : random64(), d = memory[1], flags;
		const uint64_t b = random64(), c = random64(), a0 = a, d0 = d;

		__asm__ volatile("lock cmpxchg16b %0; pushfq; popq %3"
			: "+m"(memory), "+a"(a), "+d"(d), "=&r"(flags) : "b"(b), "c"(c) : "cc");
		printf("{\"kind\":\"cmpxchg16b\",\"in\":[\"%llx\",\"%llx\",\"%llx\",\"%llx\",\"%llx\","
			"\"%llx\"],\"out\":[\"%llx\",\"%llx\",\"%llx\",\"%llx\"],\"zero\":%d}\n",
			(unsigned long long)old[0], (unsigned long long)old[1], (unsigned long long)a0,
			(unsigned long long)d0, (unsigned long long)b, (unsigned long long)c,
			(unsigned long long)memory[0], (unsigned long long)memory[1],
			(unsigned long long)a, (unsigned long long)d, (int)(flags >> 6 & 1));
	}
}

int main(void)
{
	unsigned a, b, c, d;

	printf("{\"kind\":\"layout\",\"components\":[");
	for (unsigned i = 2, first = 1; i < 32; i++) {
		if (!(xcr0() >> i & 1))
			continue;
		__cpuid_count(0xd, i, a, b, c, d);
		printf("%s{\"bit\":%u,\"offset\":%u,\"size\":%u}", first ? "" : ",", i, b, a);
		first = 0;
	}
	printf("]}\n");
	integer_cases();
	save_full(~0ull);
	vector_cases();
	return 0;
}
