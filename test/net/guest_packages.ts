/** What the guests of the network's tests have besides Python. */
export const GUEST_PACKAGES: readonly string[] = ["curl", "git"];
