/** Values that take long to make, the latest used of them kept. */

export class Kept<Value> {
  private readonly values = new Map<string, Promise<Value>>();

  constructor(
    private readonly most: number,
    private readonly drop: (value: Value) => void = () => undefined,
  ) {}

  /** Whether the value is there or being made. */
  has(key: string): boolean {
    return this.values.has(key);
  }

  /** What was kept under a key; rejects when nothing was. */
  get(key: string): Promise<Value> {
    return this.values.get(key) ?? Promise.reject(new Error(`${key}: is not kept`));
  }

  /** The value of a key, made when it is not there; one that cannot be made is not kept. */
  find(key: string, make: () => Promise<Value>): Promise<Value> {
    const found = this.values.get(key) ?? this.made(key, make);
    this.values.delete(key);
    this.values.set(key, found);
    for (const oldest of this.values.keys()) {
      if (this.values.size <= this.most) break;
      void this.values.get(oldest)!.then(this.drop, () => undefined);
      this.values.delete(oldest);
    }
    return found;
  }

  private made(key: string, make: () => Promise<Value>): Promise<Value> {
    const value = make();
    value.catch(() => {
      if (this.values.get(key) === value) this.values.delete(key);
    });
    return value;
  }
}
