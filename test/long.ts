/** Whether tests that take long are wanted: `CLOUDLET_TEST_LONG=1`. */
export const LONG = Deno.env.get("CLOUDLET_TEST_LONG") === "1";
